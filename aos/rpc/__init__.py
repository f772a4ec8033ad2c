"""What every server and client of the network shares: errors as statuses, who calls, serving, connecting."""
