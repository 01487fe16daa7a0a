"""What an author composes: steps, workflows, inputs and outputs, references, templates, the functional interface."""
