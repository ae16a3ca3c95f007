"""LiteLLM looks for a newer price map on the network when it is imported, unless it is told not to."""

import os

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
