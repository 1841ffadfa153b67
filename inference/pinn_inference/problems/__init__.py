"""What a PINN solves, one file each. Everything specific to an equation is here and nowhere else."""
