"""The expression languages of Argo: template tags, expr-lang, govaluate, sprig, JSONPath.

``tags.TagTemplate`` substitutes ``{{...}}``; ``lang`` evaluates expr-lang; ``govaluate.evaluate_when`` evaluates
``when``; ``depends`` reads what a DAG's task waits for; ``functions.functions`` gives ``sprig`` and its companions.
Everything here is a pure function of its arguments: no input or output, no clock of its own, no randomness of its own.

Trap: values are Python's but behave as Go's; ``golang`` says which stands for which.
"""
