"""Leaves of Argo that run on machines: a thin pod each (the bridge), and one service for all of them (the gateway)."""
