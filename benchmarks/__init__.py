"""What the documents state in numbers, measured: `make bench`, or `python -m benchmarks NAME`."""
