"""Services: servers and processes beside a command, and how they all end. They know nothing of builds and trainings."""
