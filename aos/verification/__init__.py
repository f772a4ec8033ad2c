"""What ran, and who says so: keys, receipts, clocks. A library of pure code that every slice may import."""
