"""What do networks believe? (torch: an extra)"""
