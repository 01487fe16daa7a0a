"""Argo's Workflow as plain data: a typed view of spec and status, node ids, validation, YAML."""
