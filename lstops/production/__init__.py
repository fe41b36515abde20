"""Monte Carlo productions: configurations of lstmcpipe, the node grid, counts, lint and plans."""
