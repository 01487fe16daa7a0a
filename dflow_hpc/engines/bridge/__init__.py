"""Leaves of Argo that run on machines: a thin pod each, the bridge."""
