"""Many videos: a plan, what of it is done, engines that work through it, and the page over all."""
