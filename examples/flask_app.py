"""Flask and SQLAlchemy: an order is shipped by a job.

With `pip install flask sqlalchemy`, in this folder:

    flask --app flask_app run
    python -m jobq worker --app flask_app:registry
    curl -d item=book http://127.0.0.1:5000/orders
"""

import atexit

from flask import Flask, abort, request
from sqlalchemy import create_engine
from sqlalchemy.orm import Mapped, Session, declarative_base, mapped_column

from jobq import Registry, SyncClient

registry = Registry()
engine = create_engine("sqlite:///orders.db")


class Order(declarative_base()):
    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)
    item: Mapped[str]
    state: Mapped[str] = mapped_column(default="new")


@registry.task
def ship(order_id: int) -> str:
    with Session(engine) as session, session.begin():
        order = session.get_one(Order, order_id)
        order.state = "shipped"
        return order.item


def create_app() -> Flask:
    app = Flask(__name__)
    Order.metadata.create_all(engine)
    jobs = SyncClient(registry=registry)
    jobs.open()  # a server that forks its workers later, as gunicorn does, may share it
    atexit.register(jobs.close)

    @app.post("/orders")
    def take() -> tuple[dict[str, object], int]:
        with Session(engine) as session, session.begin():
            order = Order(item=request.form["item"])
            session.add(order)
            session.flush()
            order_id = order.id
        # After the commit: a worker may be quicker than that, and of an order rolled back there is nothing to ship.
        job = jobs.submit(ship.job(order_id))
        return {"order": order_id, "job_id": job.job_id}, 202

    @app.get("/orders/<int:order_id>")
    def show(order_id: int) -> dict[str, object]:
        with Session(engine) as session:
            return {"state": (session.get(Order, order_id) or abort(404)).state}

    return app
