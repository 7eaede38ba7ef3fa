"""Workspaces stored while agents work, so that another attempt finds its files again."""
