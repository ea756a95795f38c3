"""The history of chat's tables; ``vodkeep.db.migrate`` applies it."""
