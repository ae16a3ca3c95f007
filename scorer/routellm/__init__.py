"""RouteLLM's published checkpoints, served where they lie and scored as upstream scores (docs/routellm.md)."""
