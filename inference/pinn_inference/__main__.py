"""`python -m pinn_inference` is `pinn-server`."""

from pinn_inference.cli import main

main()
