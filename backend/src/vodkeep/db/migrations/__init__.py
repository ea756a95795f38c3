"""The schema's history; ``vodkeep.db.migrate`` applies it."""
