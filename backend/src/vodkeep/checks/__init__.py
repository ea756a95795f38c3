"""Whether everything the service needs is there, looked at on request; each check is bounded and says what to do.

``model.py`` runs checks side by side; the other modules hold the checks of one subject each. Who builds them decides
what is checked, so that the command line and the web can show the same.
"""
