"""A whole network in processes of their own, callers that do not give up, and what is left to complain of at the end."""
