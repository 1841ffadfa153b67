"""`python -m pinn_operator` is `pinn-operator`."""

from pinn_operator.cli import main

main()
