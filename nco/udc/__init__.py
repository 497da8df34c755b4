"""UDC: divide, conquer and reunite, for instances far larger than what policies learn on.

Z. Zheng, C. Zhou, X. Tong, M. Yuan, Z. Wang, UDC: A unified neural divide-and-conquer
framework for large-scale combinatorial optimization problems, NeurIPS 2024.
"""
