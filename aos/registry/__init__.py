"""Who can do what: operators, the models they offer, and why one that is known is not used."""
