"""Profiles of machines: their files, what dpdispatcher and dflow say instead, and rules that re-place steps."""
