"""How the service behaves with many WebUIs, callers, hosts and images, and after an hour: ``make bench-scale``."""
