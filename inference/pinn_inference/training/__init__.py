"""How the shipped models were made: `pinn-train`, reproducible. Serving imports nothing from TensorFlow or SciPy."""
