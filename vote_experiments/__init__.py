"""A laboratory for one job: which model reads Thai polling-station reports best, and how sure are we?"""

__version__ = "0.1.0"
