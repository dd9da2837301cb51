"""Services: servers and processes beside a command, and how all of them end. No build and no training is known here."""
