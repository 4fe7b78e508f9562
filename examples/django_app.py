"""Django in one file: an order is shipped by a job.

With `pip install django`, in this folder:

    python django_app.py runserver
    python -m jobq worker --app django_app:registry
    curl -d item=book http://127.0.0.1:8000/orders
"""

import sys

import django
from django.conf import settings
from django.core.exceptions import BadRequest
from django.core.management import execute_from_command_line
from django.db import close_old_connections, connection, models, transaction
from django.http import HttpRequest, JsonResponse
from django.urls import path

from jobq import Registry, SyncClient

DATABASE = {"ENGINE": "django.db.backends.sqlite3", "NAME": "orders.db"}
settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["127.0.0.1"], DATABASES={"default": DATABASE})
django.setup()
registry = Registry()
jobs = SyncClient(registry=registry)


class Order(models.Model):
    item = models.TextField()
    state = models.TextField(default="new")

    class Meta:
        app_label = "shop"


@registry.task
def ship(order_id: int) -> None:
    close_old_connections()  # those of this thread that the database has given up meanwhile
    Order.objects.filter(id=order_id).update(state="shipped")


@transaction.atomic
def take(request: HttpRequest) -> JsonResponse:
    order = Order.objects.create(item=request.POST["item"])
    # After the commit: a worker may be quicker than that, and of an order rolled back there is nothing to ship.
    transaction.on_commit(lambda: jobs.submit(ship.job(order.id)))
    if not order.item:
        raise BadRequest("nothing was ordered")
    return JsonResponse({"order": order.id}, status=202)


urlpatterns = [path("orders", take)]

if __name__ == "__main__":
    if "shop_order" not in connection.introspection.table_names():
        with connection.schema_editor() as editor:
            editor.create_model(Order)
    with jobs:
        execute_from_command_line(sys.argv)
