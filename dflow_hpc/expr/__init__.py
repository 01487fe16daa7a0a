"""The expression languages of Argo: template tags, expr-lang, govaluate, sprig, JSONPath."""
