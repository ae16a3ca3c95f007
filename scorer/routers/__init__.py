"""The routers: each scores encoded prompts for every model of a ladder."""
