"""How the tables in PostgreSQL change: quantlab.ops.database carries this out."""
