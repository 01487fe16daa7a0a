"""What runs at the end in any case, and knows how it ended."""

from dflow_hpc import ShellOPTemplate, Step, Workflow

clean_up = ShellOPTemplate("clean-up", image="alpine:3.20", script="echo {{workflow.name}}: {{workflow.status}}")
work = ShellOPTemplate("work", image="alpine:3.20", script="echo working")

workflow = Workflow(name="exit-handler", on_exit=clean_up)
workflow.add(Step("work", work))

if __name__ == "__main__":
    workflow.run()
    print("steps:", *(step.displayName for step in workflow.query_step(type="Pod")))
