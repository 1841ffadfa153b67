"""The Open Inference Protocol v2, over HTTP (JSON and binary tensors) and gRPC: the server for clients that others wrote.

Only the wire differs from /predict: a tensor for each input, one for each output, and the same predictor, limits and counts.
"""
