"""``python -m aos`` is ``aos``."""

from aos.cli import main

if __name__ == "__main__":
    main()
