"""From readings to a result one can defend: outcome checks, estimates, what to label next; a name is loaded when it is first used"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
