"""The LiteLLM side of routerd: a hook that asks the scoring daemon which model a request should go to."""
