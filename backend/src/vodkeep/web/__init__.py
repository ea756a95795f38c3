"""The HTTP face of the service: health, status, metrics, the API, media and the status page.

``app.py`` puts the application together; each router module holds the routes of one subject; ``exchange.py``
wraps every request (correlation id, access line, headers, last-resort errors) and ``access.py`` decides who may
come in; ``reading.py`` is all that asks the database.
"""
