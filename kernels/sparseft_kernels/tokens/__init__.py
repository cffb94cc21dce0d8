"""Addresses of a step of tokens in a matrix [T, features], for kernels that walk over tokens."""
