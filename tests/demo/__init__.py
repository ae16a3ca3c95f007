"""Stand-ins for the demo and the proxy tests."""
