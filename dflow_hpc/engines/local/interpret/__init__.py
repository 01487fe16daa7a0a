"""The interpreter of a Workflow: templates, scopes, loops, retries, hooks, and the node tree that comes of them."""
