"""The engine for any number of processes on one PostgreSQL.

The process that plans hands *tickets* over: jobs of Procrastinate, one per item at most (`engine`). A worker that
fetches one starts the run in this process's own task group, under a lease that says who runs it and that it lives
(`leased`). Tickets and leases can be thrown away at any time: ``vods`` is the truth. What a killed process leaves of
them is noticed by the process that plans (`stalled`), and the item is due again.
"""
