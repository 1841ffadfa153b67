"""The servers ours is compared with, each as its own documentation writes it for speed, all with one network and one engine."""
