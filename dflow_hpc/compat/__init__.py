"""Answers for ``dflow`` and its deep module names, so that scripts written for it run unmodified."""
