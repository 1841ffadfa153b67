"""What every load test here needs: distinct random options, the closed formula to check answers by, processes, clients."""
