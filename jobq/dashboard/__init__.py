"""The web page at `/dashboard`: rendered here, kept live by htmx, with no state of its own."""
