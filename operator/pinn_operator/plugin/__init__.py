"""`kubectl pinn`: what a person asks about a PinnDeployment, and says to it, in one command.

It talks to the cluster through `kubectl` itself, so it sees what the person's own commands see: the same file, context, namespace
and login. And it is quick: Kubernetes' Python client alone takes longer to import than an answer may.
"""
