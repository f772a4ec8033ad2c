"""Who owes whom: what projects have, what jobs hold, what operators are owed."""
