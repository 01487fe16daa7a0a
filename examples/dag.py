"""A DAG of functions: each task starts when what it reads is there; nobody writes the order down."""

from dflow_hpc import DAG, OP, Workflow


@OP.function
def measure(name: str) -> {"length": int}:
    return {"length": len(name)}


@OP.function
def area(width: int, height: int) -> {"area": int}:
    return {"area": width * height}


@OP.function
def price(area: int, each: float) -> {"price": float}:
    return {"price": area * each}


with DAG("field") as field:
    width = measure.use(name="width")(name="twelve steps")
    height = measure.use(name="height")(name="seven")
    ground = area(width=width["length"], height=height["length"])
    price(area=ground["area"], each=2.5)

workflow = Workflow(name="dag", dag=field)

if __name__ == "__main__":
    workflow.run()
    print("price:", workflow.query_step(name="price")[0].outputs.parameters["price"].value)
