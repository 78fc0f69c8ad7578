import js from "@eslint/js";

// What the scripts take from the browser. Not all that browsers have: a forgotten `name` or `event` would be among it.
const BROWSER = [
  "CSS", "addEventListener", "atob", "devicePixelRatio", "document", "fetch", "history", "innerHeight", "innerWidth",
  "location", "matchMedia", "navigator",
];

export default [
  js.configs.recommended,
  {
    languageOptions: {
      ecmaVersion: 2022,
      sourceType: "module",
      globals: Object.fromEntries(BROWSER.map((name) => [name, "readonly"])),
    },
    linterOptions: { reportUnusedDisableDirectives: "error" },
    rules: {
      "array-callback-return": "error",
      "consistent-return": "error",
      "default-case": "error",
      "eqeqeq": "error",
      "max-lines": ["error", 300],
      "no-duplicate-imports": "error",
      "no-eval": "error",
      "no-implied-eval": "error",
      "no-promise-executor-return": "error",
      "no-self-compare": "error",
      "no-shadow": "error",
      "no-template-curly-in-string": "error",
      "no-unmodified-loop-condition": "error",
      "no-unreachable-loop": "error",
      "no-unused-expressions": "error",
      "no-use-before-define": ["error", { functions: false, variables: false }],
      "no-var": "error",
      "prefer-const": "error",
    },
  },
];
