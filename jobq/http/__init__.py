"""The HTTP side: routers that any FastAPI application can include, and `app.create_app`, our own application of them.

Nothing is imported here, so that models.py can show the wire models without loading FastAPI into every worker.
"""
