/* In double the model agrees with PyTorch's float64 to the last digits. */
#include "tests/golden/golden_model.h"

static void forward_agrees_with_torch_to_1e_13(void **state)
{
    (void)state;
    golden_check_forward(1e-13);
}

static void gradients_agree_with_torch_to_1e_13(void **state)
{
    (void)state;
    golden_check_gradients(1e-13);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(forward_agrees_with_torch_to_1e_13),
        cmocka_unit_test(gradients_agree_with_torch_to_1e_13),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
