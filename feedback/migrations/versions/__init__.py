"""One module per revision, each with the one it follows."""
