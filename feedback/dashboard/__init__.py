"""The operator's page: what routing does, what it saves, what was learned, and the buttons that change that."""
